use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
    notice: Option<String>,
}

fn main() {}
