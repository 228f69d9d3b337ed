use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(ip_addr)]
    address: Option<String>,
}

fn main() {}
