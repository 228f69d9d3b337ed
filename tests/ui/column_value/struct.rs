use session_runtime::ColumnValue;

#[derive(ColumnValue)]
struct Plan(u32);

fn main() {}
