//! Secrets Manager and DynamoDB.

use super::requested_action::{RequestedAction, secret_arn};
use super::response::{FakeAwsError, FakeAwsResponse, json_response};
use super::state::FakeAwsState;
use http::StatusCode;
use serde_json::{Value, json};

pub fn execute_json(
    state: &mut FakeAwsState,
    requested: &RequestedAction,
    parameters: &Value,
) -> Result<FakeAwsResponse, FakeAwsError> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let missing =
        |code: &'static str| FakeAwsError::new(StatusCode::BAD_REQUEST, code, "Requested resource not found");
    let body = match requested.action.as_str() {
        "secretsmanager:GetSecretValue" => {
            let value =
                state.secrets.get(&text("SecretId")).ok_or_else(|| missing("ResourceNotFoundException"))?;
            json!({"ARN": requested.resource, "Name": text("SecretId"), "SecretString": value, "VersionId": "1", "VersionStages": ["AWSCURRENT"]})
        }
        "secretsmanager:CreateSecret" => {
            state.secrets.insert(text("Name"), text("SecretString"));
            json!({"ARN": requested.resource, "Name": text("Name")})
        }
        "secretsmanager:ListSecrets" => {
            let list: Vec<Value> =
                state.secrets.keys().map(|name| json!({"Name": name, "ARN": secret_arn(name)})).collect();
            json!({"SecretList": list})
        }
        "dynamodb:ListTables" => json!({"TableNames": state.tables.keys().collect::<Vec<_>>()}),
        "dynamodb:CreateTable" => {
            state.tables.entry(text("TableName")).or_default();
            json!({"TableDescription": {"TableName": text("TableName"), "TableStatus": "ACTIVE"}})
        }
        "dynamodb:DeleteTable" => {
            state.tables.remove(&text("TableName")).ok_or_else(|| missing("ResourceNotFoundException"))?;
            json!({"TableDescription": {"TableName": text("TableName"), "TableStatus": "DELETING"}})
        }
        "dynamodb:PutItem" => {
            let table = state
                .tables
                .get_mut(&text("TableName"))
                .ok_or_else(|| missing("ResourceNotFoundException"))?;
            table.push(parameters.get("Item").cloned().unwrap_or_default());
            json!({})
        }
        "dynamodb:GetItem" => {
            let table =
                state.tables.get(&text("TableName")).ok_or_else(|| missing("ResourceNotFoundException"))?;
            let key = parameters.get("Key").and_then(Value::as_object).cloned().unwrap_or_default();
            let found =
                table.iter().rev().find(|item| key.iter().all(|(name, value)| item.get(name) == Some(value)));
            found.map_or_else(|| json!({}), |item| json!({"Item": item}))
        }
        _ => return Err(FakeAwsError::unknown_operation()),
    };
    Ok(json_response(&body))
}
