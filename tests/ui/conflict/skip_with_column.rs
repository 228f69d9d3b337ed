use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(skip, column)]
    notice: Option<String>,
}

fn main() {}
