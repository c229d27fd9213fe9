//! DynamoDB: tables by name or ARN, indexes, batches, transactions and PartiQL statements.

use super::super::resources::{Context, demand, push};
use super::super::text::malformed;
use super::partiql;
use durward_core::{AccessLevel, Demand, Refusal};
use serde_json::Value;

use AccessLevel::{Read, Write};

pub(super) fn demands(context: &Context<'_>) -> Result<Option<Vec<Demand>>, Refusal> {
    let mut out = Vec::new();
    match context.op.name.as_str() {
        name @ ("BatchGetItem" | "BatchWriteItem") => {
            let action = format!("dynamodb:{name}");
            let level = context.level(&action, if name == "BatchGetItem" { Read } else { Write });
            let tables = context.parameters.get("RequestItems").and_then(Value::as_object);
            for table in tables.into_iter().flat_map(serde_json::Map::keys) {
                push(&mut out, demand(&action, level, table_arn(context, table, None)));
            }
            if out.is_empty() {
                return Err(malformed("RequestItems names no table"));
            }
        }
        "TransactGetItems" | "TransactWriteItems" => transact(context, &mut out)?,
        "ExecuteStatement" => {
            let text = context.text("Statement").ok_or_else(|| malformed("there is no Statement"))?;
            statement(context, text, &mut out)?;
        }
        "BatchExecuteStatement" => statements(context, "Statements", &mut out)?,
        "ExecuteTransaction" => statements(context, "TransactStatements", &mut out)?,
        name @ ("Query" | "Scan") => {
            let table = context.text("TableName").ok_or_else(|| malformed("there is no TableName"))?;
            let action = format!("dynamodb:{name}");
            let level = context.level(&action, Read);
            out.push(demand(&action, level, table_arn(context, table, context.text("IndexName"))));
        }
        _ => {
            // Every other operation on one table; what names no table goes by the templates.
            let Some(table) = context.text("TableName") else { return Ok(None) };
            let arn = table_arn(context, table, None);
            for use_ in context.uses() {
                if use_.action.starts_with("dynamodb:") {
                    push(&mut out, demand(&use_.action, use_.access_level, arn.clone()));
                } else {
                    super::super::resources::by_template(context, use_, &mut out);
                }
            }
            if out.is_empty() {
                return Ok(None);
            }
        }
    }
    Ok(Some(out))
}

fn table_arn(context: &Context<'_>, table: &str, index: Option<&str>) -> String {
    let mut arn = context.arn_of("dynamodb", "table/", table);
    if let Some(index) = index {
        arn.push_str("/index/");
        arn.push_str(index);
    }
    arn
}

/// Each item of a transaction is one action on one table.
fn transact(context: &Context<'_>, out: &mut Vec<Demand>) -> Result<(), Refusal> {
    const ACTIONS: [(&str, &str, AccessLevel); 5] = [
        ("Get", "dynamodb:GetItem", Read),
        ("Put", "dynamodb:PutItem", Write),
        ("Update", "dynamodb:UpdateItem", Write),
        ("Delete", "dynamodb:DeleteItem", Write),
        ("ConditionCheck", "dynamodb:ConditionCheckItem", Read),
    ];
    for item in context.items("TransactItems") {
        let parts =
            item.as_object().ok_or_else(|| malformed("an item of TransactItems is not a structure"))?;
        let before = out.len();
        let mut named = 0;
        for (part, request) in parts.iter().filter(|(_, request)| !request.is_null()) {
            let (_, action, level) = ACTIONS
                .iter()
                .find(|(known, _, _)| known == part)
                .ok_or_else(|| malformed("an item of TransactItems is of a kind that is not known"))?;
            let table = request
                .get("TableName")
                .and_then(Value::as_str)
                .filter(|table| !table.is_empty())
                .ok_or_else(|| malformed("an item of TransactItems names no table"))?;
            push(out, demand(action, *level, table_arn(context, table, None)));
            named += 1;
        }
        if named != 1 {
            out.truncate(before);
            return Err(malformed("an item of TransactItems is not exactly one request"));
        }
    }
    if out.is_empty() {
        return Err(malformed("TransactItems is empty"));
    }
    Ok(())
}

fn statements(context: &Context<'_>, list: &str, out: &mut Vec<Demand>) -> Result<(), Refusal> {
    for item in context.items(list) {
        let text = item
            .get("Statement")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed(format!("an item of {list} has no Statement")))?;
        statement(context, text, out)?;
    }
    if out.is_empty() {
        return Err(malformed(format!("{list} is empty")));
    }
    Ok(())
}

fn statement(context: &Context<'_>, text: &str, out: &mut Vec<Demand>) -> Result<(), Refusal> {
    let read = partiql::parse(text)?;
    push(out, demand(read.action, read.level, table_arn(context, &read.table, read.index.as_deref())));
    Ok(())
}
