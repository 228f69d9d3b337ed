use session_runtime::Databag;

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Theme;

#[derive(Databag)]
struct Shop {
    theme: Theme,
    #[databag(secret)]
    pin: u32,
}

fn main() {}
