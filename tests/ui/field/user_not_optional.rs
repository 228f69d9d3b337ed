use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: i64,
}

fn main() {}
