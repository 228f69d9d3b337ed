//! The key that seals the sessions: from the environment, or from a file that the shop creates.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::process;

use session_runtime::Keyring;

use crate::chain;

/// In the current folder.
const FILE: &str = "shop.key";

/// Returns the key in `SESSION_KEY`, or else the key in the file, which the first start creates.
pub(crate) fn keyring() -> Result<Keyring, String> {
    if std::env::var_os("SESSION_KEY").is_some() {
        return Keyring::from_env("SESSION_KEY").map_err(|error| chain(&error));
    }
    let path = Path::new(FILE);
    if !path.try_exists().map_err(|error| format!("{FILE} cannot be accessed: {error}"))? {
        make(path).map_err(|error| format!("{FILE} cannot be made: {error}"))?;
    }
    Keyring::from_file(path).map_err(|error| chain(&error))
}

/// Writes a new key to a temporary file first, so that the file has the whole key at once, even if two shops start at the
/// same time.
fn make(path: &Path) -> io::Result<()> {
    let draft = path.with_extension(format!("key.{}", process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(Keyring::generate_text().as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => println!("shop: made a session key and keeps it in {FILE} (mode 0600)"),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
