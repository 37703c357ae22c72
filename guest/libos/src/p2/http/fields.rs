//! The fields of messages.

use alloc::string::String;
use alloc::vec::Vec;

use wasmtime::Result;
use wasmtime::component::Resource;

use super::FieldsResult;
use crate::http::Fields;
use crate::p2::Wasi;
use crate::p2::bindings::wasi::http::types;

impl types::HostFields for Wasi {
    fn new(&mut self) -> Result<Resource<Fields>> {
        self.hand_out(Fields::default())
    }

    fn from_list(&mut self, entries: Vec<(String, Vec<u8>)>) -> FieldsResult<Resource<Fields>> {
        let mut fields = Fields::default();
        for (name, value) in entries {
            fields.append(&name, value)?;
        }
        Ok(self.hand_out(fields)?)
    }

    fn get(&mut self, fields: Resource<Fields>, name: String) -> Result<Vec<Vec<u8>>> {
        Ok(self.table.get(&fields)?.get(&name))
    }

    fn has(&mut self, fields: Resource<Fields>, name: String) -> Result<bool> {
        Ok(self.table.get(&fields)?.has(&name))
    }

    fn set(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        values: Vec<Vec<u8>>,
    ) -> FieldsResult<()> {
        Ok(self.table.get_mut(&fields)?.set(&name, values)?)
    }

    fn delete(&mut self, fields: Resource<Fields>, name: String) -> FieldsResult<()> {
        Ok(self.table.get_mut(&fields)?.delete(&name)?)
    }

    fn append(
        &mut self,
        fields: Resource<Fields>,
        name: String,
        value: Vec<u8>,
    ) -> FieldsResult<()> {
        Ok(self.table.get_mut(&fields)?.append(&name, value)?)
    }

    fn entries(&mut self, fields: Resource<Fields>) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(self.table.get(&fields)?.entries())
    }

    fn clone(&mut self, fields: Resource<Fields>) -> Result<Resource<Fields>> {
        let copy = self.table.get(&fields)?.to_mutable();
        self.hand_out(copy)
    }

    fn drop(&mut self, fields: Resource<Fields>) -> Result<()> {
        self.take_back(fields)
    }
}
