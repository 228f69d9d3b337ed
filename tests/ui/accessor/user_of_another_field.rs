use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    user: Option<String>,
}

fn main() {}
