//! Writes the seeds of all targets: `cargo run -p databag-fuzz`. With the argument `unpack` it writes them where libFuzzer
//! reads them.

use databag_fuzz::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let unpacks = std::env::args().nth(1).is_some_and(|argument| argument == "unpack");
    for target in TARGETS {
        if unpacks {
            seeds::unpack(target)?;
        } else {
            println!("{}: {} inputs", target.name, seeds::collect(target)?);
        }
    }
    Ok(())
}
