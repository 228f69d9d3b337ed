use session_runtime::Databag;

#[derive(serde::Serialize, serde::Deserialize)]
struct Theme;

#[derive(Databag)]
struct Shop {
    theme: Theme,
}

fn main() {}
