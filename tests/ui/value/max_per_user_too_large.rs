use session_runtime::Databag;

#[derive(Databag)]
#[databag(max_per_user = 5_000_000_000)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
}

fn main() {}
