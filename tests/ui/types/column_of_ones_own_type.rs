use session_runtime::Databag;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Theme;

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    theme: Theme,
}

fn main() {}
