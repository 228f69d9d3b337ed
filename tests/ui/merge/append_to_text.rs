use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(merge = "append")]
    log: String,
}

fn main() {}
