use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id, column)]
    account: Option<i64>,
}

fn main() {}
