use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(bind = "off")]
    notice: Option<String>,
}

fn main() {}
