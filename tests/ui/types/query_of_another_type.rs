use session_runtime::{ColumnType, ColumnValue, Databag, Value};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Tenant(i64);

impl ColumnValue for Tenant {
    const TYPE: ColumnType = ColumnType::Integer;

    fn to_value(&self) -> Value {
        Value::Integer(self.0)
    }
}

#[derive(Databag)]
struct Shop {
    #[databag(column)]
    tenant: Option<Tenant>,
}

fn main() {
    Shop::TENANT.eq("acme");
}
