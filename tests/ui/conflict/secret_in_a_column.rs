use session_runtime::Databag;

#[derive(Databag)]
struct Shop0 {
    #[databag(secret, user_id)]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop1 {
    #[databag(secret, ip_addr)]
    address: Option<std::net::IpAddr>,
}

fn main() {}
