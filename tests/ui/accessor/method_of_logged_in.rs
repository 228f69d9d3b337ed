use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    user: Option<i64>,
}

fn main() {}
