#[derive(Databag)]
#[databag(idle = "30mins")]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(column, secret)]
    tenant: Option<String>,
}
