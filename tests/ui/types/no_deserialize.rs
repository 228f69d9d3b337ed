use session_runtime::Databag;

#[derive(Default, serde::Serialize)]
struct Theme;

#[derive(Databag)]
struct Shop {
    theme: Theme,
}

fn main() {}
