use session_runtime::Databag;

#[derive(Default, serde::Deserialize)]
struct Theme;

#[derive(Databag)]
struct Shop {
    theme: Theme,
}

fn main() {}
