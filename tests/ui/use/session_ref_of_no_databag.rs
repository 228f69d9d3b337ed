use session_runtime::SessionRef;

struct Shop;

async fn visit(_: SessionRef<Shop>) {}

fn main() {
    let _ = visit;
}
