use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(ip_addr, bind = "exactly")]
    address: Option<std::net::IpAddr>,
}

fn main() {}
