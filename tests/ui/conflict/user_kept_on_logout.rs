use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id, keep_on_logout)]
    account: Option<i64>,
}

fn main() {}
