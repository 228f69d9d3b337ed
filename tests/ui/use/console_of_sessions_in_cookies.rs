use session_runtime::access::InCookie;
use session_runtime::{Console, Databag, History, Sessions};

#[derive(Databag)]
struct Shop {
    is_admin: bool,
}

fn mount(sessions: Sessions<Shop, InCookie>, history: History) {
    let _ = Console::new("/admin", &sessions, &history, |viewer: &Shop| viewer.is_admin);
}

fn main() {
    let _ = mount;
}
