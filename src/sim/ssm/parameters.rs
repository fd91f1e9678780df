//! Parameter Store: parameters are put, and read by operators and by instances.

use serde_json::{Value, json};

use crate::sim::account::{ACCOUNT, REGION};
use crate::sim::faults::Kind;
use crate::sim::state::State;
use crate::sim::wire::{Answer, ApiError, Params};

impl State {
    pub(super) fn put_parameter(&mut self, p: Params<'_>) -> Answer {
        let (name, value) = (p.need("Name")?.to_owned(), p.need("Value")?.to_owned());
        let kind = p.str("Type").unwrap_or("String").to_owned();
        if self.parameters.contains_key(&name) && p.bool("Overwrite") != Some(true) {
            return Err(ApiError::refused("ParameterAlreadyExists", "The parameter already exists."));
        }
        self.parameters.insert(name, (kind, value));
        Ok(json!({"Version": 1, "Tier": "Standard"}))
    }

    fn parameter_json(&self, name: &str, decrypt: bool) -> Option<Value> {
        let (kind, value) = self.parameters.get(name)?;
        let shown = if kind == "SecureString" && !decrypt { "AQICAHencrypted" } else { value };
        Some(json!({"Name": name, "Type": kind, "Value": shown, "Version": 1, "DataType": "text"}))
    }

    /// Reads a parameter for an instance, which AmazonSSMManagedInstanceCore allows for all parameters; an error is what
    /// the AWS CLI would print.
    pub fn read_parameter_for_instance(&mut self, name: &str) -> Result<String, String> {
        let cli_error = |code: &str, words: &str| {
            format!("An error occurred ({code}) when calling the GetParameter operation: {words}")
        };
        let faults = [Kind::Throttle];
        if self.faults.strike(&faults, "GetParameter", &[], &mut self.chance).is_some() {
            return Err(cli_error("ThrottlingException", "Rate exceeded"));
        }
        let arn = format!("arn:aws:ssm:{0}:{1}:parameter/{2}", REGION, ACCOUNT, name.trim_start_matches('/'));
        if self.instance_policy.denies("ssm:GetParameter", &arn) {
            let words = format!("User is not authorized to perform: ssm:GetParameter on resource: {arn}");
            return Err(cli_error("AccessDeniedException", &words));
        }
        let found = self.parameters.get(name).map(|(_, value)| value.clone());
        found.ok_or_else(|| cli_error("ParameterNotFound", ""))
    }

    pub(super) fn get_parameter(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("Name")?;
        let parameter = self.parameter_json(name, p.bool("WithDecryption").unwrap_or_default());
        parameter.map(|v| json!({"Parameter": v})).ok_or_else(|| ApiError::refused("ParameterNotFound", ""))
    }

    pub(super) fn get_parameters(&mut self, p: Params<'_>) -> Answer {
        let names = p.strings("Names");
        if names.is_empty() || names.len() > 10 {
            return Err(p.error("Member must have length between 1 and 10"));
        }
        let decrypt = p.bool("WithDecryption").unwrap_or_default();
        let found: Vec<Value> = names.iter().filter_map(|n| self.parameter_json(n, decrypt)).collect();
        let missing: Vec<&String> = names.iter().filter(|n| !self.parameters.contains_key(*n)).collect();
        Ok(json!({"Parameters": found, "InvalidParameters": missing}))
    }
}
