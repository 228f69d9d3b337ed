use session_runtime::Databag;

#[derive(Databag)]
#[databag(tabel = "sessions", idle = "0m", same_site = "laxx")]
struct Shop {
    #[databag(secret, column)]
    tenant: Option<String>,
    #[databag(flash)]
    notice: String,
}

fn main() {}
