#[derive(Databag)]
#[databag(cookie = "__Secure-shop", domain = "example.com", max_per_user = 5)]
struct Shop {
    #[databag(user_id)]
    account: Option<i64>,
    #[databag(ip_addr, bind = "prefix")]
    address: Option<IpAddr>,
    #[databag(column = "shop", index)]
    tenant: Option<String>,
}
