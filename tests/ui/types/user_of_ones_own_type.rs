use session_runtime::Databag;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Account(i64);

#[derive(Databag)]
struct Shop {
    #[databag(user_id)]
    account: Option<Account>,
}

fn main() {}
