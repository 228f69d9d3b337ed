use session_runtime::Databag;
use std::net::IpAddr;

#[derive(Databag)]
struct Shop {
    #[databag(ip_addr)]
    first: Option<IpAddr>,
    #[databag(ip_addr)]
    last: Option<IpAddr>,
}

fn main() {}
