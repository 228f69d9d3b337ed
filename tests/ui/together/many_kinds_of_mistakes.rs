use session_runtime::Databag;

#[derive(Databag)]
#[databag(tabel = "shop", idle = "30mins", cookie = "my shop", same_site = "laxx", max_per_user = 0)]
struct Shop {
    #[databag(flash)]
    notice: String,
    #[databag(secret, column)]
    pin: u32,
    #[databag(index)]
    tenant: Option<String>,
    #[databag(merge = "som")]
    visits: u32,
    name: &'static str,
}

fn main() {}
