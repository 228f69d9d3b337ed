use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(rename = "#")]
    notice: Option<String>,
}

fn main() {}
