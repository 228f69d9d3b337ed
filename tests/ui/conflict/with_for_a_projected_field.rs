use session_runtime::Databag;

#[derive(Databag)]
struct Shop0 {
    #[databag(with = module, user_id)]
    account: Option<i64>,
}

#[derive(Databag)]
struct Shop1 {
    #[databag(with = module, ip_addr)]
    address: Option<std::net::IpAddr>,
}

fn main() {}
