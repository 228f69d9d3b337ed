use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(with = module, column)]
    notice: Option<String>,
}

fn main() {}
