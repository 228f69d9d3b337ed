use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(user_id)]
    admin: Option<i64>,
}

fn main() {}
