//! DynamoDB: tables by name or ARN, indexes, batches, transactions and PartiQL statements.

use super::super::permission_templates::{PermissionContext, permission_on_arn, permissions_on_arns};
use super::partiql;
use crate::refusals::malformed_request;
use durward_core::{AccessLevel, Refusal, RequiredPermission};
use serde_json::Value;

use AccessLevel::{Read, Write};

pub(super) fn required_permissions(
    context: &PermissionContext<'_>,
) -> Result<Option<Vec<RequiredPermission>>, Refusal> {
    let mut out = Vec::new();
    match context.operation_model.name.as_str() {
        name @ ("BatchGetItem" | "BatchWriteItem") => {
            let action = format!("dynamodb:{name}");
            let level = context.access_level(&action, if name == "BatchGetItem" { Read } else { Write });
            let tables = context.parameters.get("RequestItems").and_then(Value::as_object);
            for table in tables.into_iter().flat_map(serde_json::Map::keys) {
                out.push(permission_on_arn(&action, level, table_arn(context, table, None)));
            }
            if out.is_empty() {
                return Err(malformed_request("RequestItems names no table"));
            }
        }
        "TransactGetItems" | "TransactWriteItems" => push_transaction_permissions(context, &mut out)?,
        // The table is in the text of the statement, which no template of the catalog can read.
        "ExecuteStatement" => {
            let text = context
                .text_parameter("Statement")
                .ok_or_else(|| malformed_request("there is no Statement"))?;
            push_statement_permission(context, text, &mut out)?;
        }
        "BatchExecuteStatement" => push_statement_list_permissions(context, "Statements", &mut out)?,
        "ExecuteTransaction" => push_statement_list_permissions(context, "TransactStatements", &mut out)?,
        name @ ("Query" | "Scan") => {
            let table = context
                .text_parameter("TableName")
                .ok_or_else(|| malformed_request("there is no TableName"))?;
            let action = format!("dynamodb:{name}");
            let level = context.access_level(&action, Read);
            out.push(permission_on_arn(
                &action,
                level,
                table_arn(context, table, context.text_parameter("IndexName")),
            ));
        }
        _ => {
            // Any other operation on one table. Without a table, the templates apply.
            let Some(table) = context.text_parameter("TableName") else { return Ok(None) };
            out = permissions_on_arns(context, "dynamodb:", &[table_arn(context, table, None)]);
            if out.is_empty() {
                return Ok(None);
            }
        }
    }
    Ok(Some(out))
}

fn table_arn(context: &PermissionContext<'_>, table: &str, index: Option<&str>) -> String {
    let mut arn = context.resolve_arn("dynamodb", "table/", table);
    if let Some(index) = index {
        arn.push_str("/index/");
        arn.push_str(index);
    }
    arn
}

/// Each item of a transaction is one action on one table.
fn push_transaction_permissions(
    context: &PermissionContext<'_>,
    out: &mut Vec<RequiredPermission>,
) -> Result<(), Refusal> {
    const TRANSACTION_ACTIONS: [(&str, &str, AccessLevel); 5] = [
        ("Get", "dynamodb:GetItem", Read),
        ("Put", "dynamodb:PutItem", Write),
        ("Update", "dynamodb:UpdateItem", Write),
        ("Delete", "dynamodb:DeleteItem", Write),
        ("ConditionCheck", "dynamodb:ConditionCheckItem", Read),
    ];
    for item in context.list_parameter("TransactItems") {
        let parts = item
            .as_object()
            .ok_or_else(|| malformed_request("an item of TransactItems is not a structure"))?;
        let mut requests = 0;
        for (part, request) in parts.iter().filter(|(_, request)| !request.is_null()) {
            let (_, action, level) =
                TRANSACTION_ACTIONS.iter().find(|(known, _, _)| known == part).ok_or_else(|| {
                    malformed_request("an item of TransactItems is a request of an unknown kind")
                })?;
            let table = request
                .get("TableName")
                .and_then(Value::as_str)
                .filter(|table| !table.is_empty())
                .ok_or_else(|| malformed_request("an item of TransactItems names no table"))?;
            out.push(permission_on_arn(action, *level, table_arn(context, table, None)));
            requests += 1;
        }
        // DynamoDB takes one request for each item. With two, policy could decide one and DynamoDB execute the other.
        if requests != 1 {
            return Err(malformed_request("an item of TransactItems is not exactly one request"));
        }
    }
    if out.is_empty() {
        return Err(malformed_request("TransactItems is empty"));
    }
    Ok(())
}

fn push_statement_list_permissions(
    context: &PermissionContext<'_>,
    list: &str,
    out: &mut Vec<RequiredPermission>,
) -> Result<(), Refusal> {
    for item in context.list_parameter(list) {
        let text = item
            .get("Statement")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed_request(format!("an item of {list} has no Statement")))?;
        push_statement_permission(context, text, out)?;
    }
    if out.is_empty() {
        return Err(malformed_request(format!("{list} is empty")));
    }
    Ok(())
}

fn push_statement_permission(
    context: &PermissionContext<'_>,
    text: &str,
    out: &mut Vec<RequiredPermission>,
) -> Result<(), Refusal> {
    let statement = partiql::parse_statement(text)?;
    out.push(permission_on_arn(
        statement.action,
        statement.access_level,
        table_arn(context, &statement.table, statement.index.as_deref()),
    ));
    Ok(())
}
