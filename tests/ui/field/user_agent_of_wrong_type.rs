use session_runtime::Databag;

#[derive(Databag)]
struct Shop {
    #[databag(user_agent)]
    browser: String,
}

fn main() {}
