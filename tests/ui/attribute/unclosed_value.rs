use session_runtime::Databag;

#[derive(Databag)]
#[databag(max_per_user = 5 6)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
}

fn main() {}
