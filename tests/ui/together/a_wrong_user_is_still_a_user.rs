use session_runtime::{Databag, Session};

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: i64,
}

fn sign_in(session: &mut Session<Shop>) {
    session.log_in(7);
    let _ = (session.account(), Shop::ACCOUNT.eq(7));
}

fn main() {
    let _ = sign_in;
}
