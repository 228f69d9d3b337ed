use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_id, ip_addr)]
    account: Option<std::net::IpAddr>,
}

fn main() {}
