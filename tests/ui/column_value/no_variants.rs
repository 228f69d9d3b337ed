use session_runtime::ColumnValue;

#[derive(ColumnValue)]
enum Plan {}

fn main() {}
