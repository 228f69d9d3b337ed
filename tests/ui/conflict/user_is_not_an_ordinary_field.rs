use session_runtime::Databag;

#[derive(Databag)]
struct Shop0 {
    #[databag(user_id, flash)]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop1 {
    #[databag(user_id, default = Some(1))]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop2 {
    #[databag(user_id, reset_on_login)]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop3 {
    #[databag(user_id, merge = "last")]
    account: Option<i64>,
}

fn main() {}
