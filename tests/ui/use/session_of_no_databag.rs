use session_runtime::Session;

struct Shop {
    visits: u32,
}

async fn visit(_: Session<Shop>) {}

fn main() {
    let _ = visit;
}
