use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    user: Option<i64>,
    #[databag(accessor = "user")]
    customer: Option<String>,
}

fn main() {}
