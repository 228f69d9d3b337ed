use session_runtime::Databag;

#[derive(Databag)]
enum Shop {
    Open,
}

fn main() {}
