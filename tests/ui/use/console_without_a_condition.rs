use session_runtime::{Console, Databag, History, Sessions};

#[derive(Databag)]
struct Shop {
    visits: u32,
}

fn mount(sessions: Sessions<Shop>, history: History) {
    let _ = Console::<Shop, Shop>::new("/admin", &sessions, &history);
}

fn main() {
    let _ = mount;
}
