use session_runtime::{Databag, Session};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

fn sign_in(session: &mut Session<Shop>) {
    session.log_in(7);
}

fn main() {
    let _ = sign_in;
}
