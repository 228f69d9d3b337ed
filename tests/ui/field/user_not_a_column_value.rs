use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<Vec<String>>,
}

fn main() {}
