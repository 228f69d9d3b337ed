use session_runtime::Databag;

#[derive(Databag)]
struct Shop0 {
    #[databag(ip_addr, column)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop1 {
    #[databag(ip_addr, flash)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop2 {
    #[databag(ip_addr, default = None)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop3 {
    #[databag(ip_addr, keep_on_logout)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop4 {
    #[databag(ip_addr, reset_on_login)]
    address: Option<std::net::IpAddr>,
}

#[derive(Databag)]
struct Shop5 {
    #[databag(ip_addr, merge = "last")]
    address: Option<std::net::IpAddr>,
}

fn main() {}
