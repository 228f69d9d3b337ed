use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: Option<String>,
}

fn main() {}
