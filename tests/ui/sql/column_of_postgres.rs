use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column = "xmin")]
    notice: Option<String>,
}

fn main() {}
