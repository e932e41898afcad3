//! Descriptors as the source that they may have been compiled from: what `adit describe` prints.
//!
//! Types are named in full, so that each name can be asked for next. Comments are there where the
//! description has them.

mod comments;
mod fields;
mod options;
#[cfg(test)]
mod tests;

use prost_reflect::{
    EnumDescriptor, EnumValueDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor,
    OneofDescriptor, ServiceDescriptor, Syntax,
};

use crate::schema::Symbol;
use crate::status::printable;
use comments::Comments;
use options::{listed, statements};

/// The greatest number of a field, which a range of extensions may reach.
const MAX_NUMBER: u32 = 0x1FFF_FFFF;

/// What a symbol is, in a comment, and its source.
pub fn source(symbol: &Symbol) -> String {
    let file = symbol.file();
    let mut source = Source::of(&file);
    if !matches!(symbol, Symbol::File(_)) {
        source.line(&format!(
            "// {}: {} of {}",
            symbol.full_name(),
            symbol.kind(),
            file.name()
        ));
    }
    match symbol {
        Symbol::File(file) => source.file(file),
        Symbol::Service(service) => source.service(service),
        Symbol::Method(method) => source.method(method),
        Symbol::Message(message) => source.message(message),
        Symbol::Field(field) => source.field(&field.into()),
        Symbol::Oneof(oneof) => source.oneof(oneof),
        Symbol::Enum(of) => source.enumeration(of),
        Symbol::EnumValue(value) => source.value(value),
        Symbol::Extension(extension) => source.extension(extension),
    }
    source.text
}

/// A source in the making.
struct Source {
    text: String,
    depth: usize,
    comments: Comments,
}

impl Source {
    fn of(file: &FileDescriptor) -> Self {
        Self {
            text: String::new(),
            depth: 0,
            comments: Comments::of(file),
        }
    }

    /// Adds a line. Whatever the descriptors hold, a terminal is not to obey it.
    fn line(&mut self, line: &str) {
        if !line.is_empty() {
            self.text.push_str(&"  ".repeat(self.depth));
            self.text.push_str(&printable(line));
        }
        self.text.push('\n');
    }

    /// Adds a statement with the comments of what it is for.
    fn statement(&mut self, path: &[i32], line: &str) {
        let said = self.comments.at(path);
        for comment in said.before {
            self.line(&comment);
        }
        match said.behind.as_slice() {
            [one] => self.line(&format!("{line} {one}")),
            several => {
                self.line(line);
                for comment in several {
                    self.line(comment);
                }
            }
        }
    }

    /// Adds a block with the comments of what it is for.
    fn block(&mut self, path: &[i32], head: &str, inside: impl FnOnce(&mut Self)) {
        let said = self.comments.at(path);
        for comment in said.before {
            self.line(&comment);
        }
        let begin = self.text.len();
        self.line(&format!("{head} {{"));
        let opened = self.text.len();
        self.depth += 1;
        for comment in said.behind {
            self.line(&comment);
        }
        inside(self);
        self.depth -= 1;
        if self.text.len() == opened {
            // Nothing is in it.
            self.text.truncate(begin);
            self.line(&format!("{head} {{}}"));
        } else {
            self.line("}");
        }
    }

    /// Adds an empty line, unless a block begins here.
    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("{\n") && !self.text.ends_with("\n\n") {
            self.line("");
        }
    }

    fn file(&mut self, file: &FileDescriptor) {
        let said = file.file_descriptor_proto();
        // Path of the syntax, of a package and of imports, as in `descriptor.proto`.
        let syntax = match file.syntax() {
            Syntax::Proto2 => "syntax = \"proto2\";",
            Syntax::Proto3 => "syntax = \"proto3\";",
        };
        self.statement(&[12], syntax);
        if !file.package_name().is_empty() {
            self.gap();
            self.statement(&[2], &format!("package {};", file.package_name()));
        }
        self.gap();
        for (index, name) in said.dependency.iter().enumerate() {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let public = if said.public_dependency.contains(&index) {
                "public "
            } else {
                ""
            };
            self.statement(&[3, index], &format!("import {public}{name:?};"));
        }
        self.gap();
        for option in statements(&file.options()) {
            self.line(&option);
        }
        for service in file.services() {
            self.gap();
            self.service(&service);
        }
        for message in file.messages() {
            self.gap();
            self.message(&message);
        }
        for of in file.enums() {
            self.gap();
            self.enumeration(&of);
        }
        for extension in file.extensions() {
            self.gap();
            self.extension(&extension);
        }
    }

    fn service(&mut self, service: &ServiceDescriptor) {
        self.block(service.path(), &format!("service {}", service.name()), |source| {
            for option in statements(&service.options()) {
                source.line(&option);
            }
            for method in service.methods() {
                source.method(&method);
            }
        });
    }

    fn method(&mut self, method: &MethodDescriptor) {
        let stream = |streams| if streams { "stream " } else { "" };
        let head = format!(
            "rpc {}({}{}) returns ({}{})",
            method.name(),
            stream(method.is_client_streaming()),
            method.input().full_name(),
            stream(method.is_server_streaming()),
            method.output().full_name(),
        );
        let options = statements(&method.options());
        if options.is_empty() {
            return self.statement(method.path(), &format!("{head};"));
        }
        self.block(method.path(), &head, |source| {
            for option in options {
                source.line(&option);
            }
        });
    }

    fn message(&mut self, message: &MessageDescriptor) {
        let head = format!("message {}", message.name());
        self.block(message.path(), &head, |source| source.in_message(message));
    }

    /// What stands between the braces of a message, or of a group.
    fn in_message(&mut self, message: &MessageDescriptor) {
        for option in statements(&message.options()) {
            self.line(&option);
        }
        let mut told = Vec::new();
        // In their order, which is not that of their numbers.
        for said in &message.descriptor_proto().field {
            let Some(field) = message.get_field_by_name(said.name()) else {
                continue;
            };
            match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                None => self.field(&(&field).into()),
                Some(oneof) if told.contains(&oneof.name().to_owned()) => {}
                Some(oneof) => {
                    told.push(oneof.name().to_owned());
                    self.oneof(&oneof);
                }
            }
        }
        self.ranges(message);
        // Groups and entries of maps stand where their fields do.
        let is_group = |nested: &MessageDescriptor| {
            let mut fields = message.fields();
            fields.any(|field| field.is_group() && field.kind().as_message() == Some(nested))
        };
        for nested in message.child_messages() {
            if !nested.is_map_entry() && !is_group(&nested) {
                self.gap();
                self.message(&nested);
            }
        }
        for nested in message.child_enums() {
            self.gap();
            self.enumeration(&nested);
        }
        for extension in message.child_extensions() {
            self.gap();
            self.extension(&extension);
        }
    }

    fn ranges(&mut self, message: &MessageDescriptor) {
        let range = |range: std::ops::Range<u32>| match (range.start, range.end.saturating_sub(1)) {
            (start, end) if end >= MAX_NUMBER => format!("{start} to max"),
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start} to {end}"),
        };
        for extensions in message.extension_ranges() {
            self.line(&format!("extensions {};", range(extensions)));
        }
        let reserved: Vec<String> = message.reserved_ranges().map(range).collect();
        self.reserved(&reserved, message.reserved_names());
    }

    fn reserved<'a>(&mut self, numbers: &[String], names: impl Iterator<Item = &'a str>) {
        if !numbers.is_empty() {
            self.line(&format!("reserved {};", numbers.join(", ")));
        }
        let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
        if !names.is_empty() {
            self.line(&format!("reserved {};", names.join(", ")));
        }
    }

    fn oneof(&mut self, oneof: &OneofDescriptor) {
        self.block(oneof.path(), &format!("oneof {}", oneof.name()), |source| {
            for option in statements(&oneof.options()) {
                source.line(&option);
            }
            for field in oneof.fields() {
                source.field(&(&field).into());
            }
        });
    }

    fn enumeration(&mut self, of: &EnumDescriptor) {
        self.block(of.path(), &format!("enum {}", of.name()), |source| {
            for option in statements(&of.options()) {
                source.line(&option);
            }
            // In their order: where several have a number, the first is its name.
            for said in &of.enum_descriptor_proto().value {
                if let Some(value) = of.get_value_by_name(said.name()) {
                    source.value(&value);
                }
            }
            let range = |range: std::ops::RangeInclusive<i32>| match (*range.start(), *range.end()) {
                (start, i32::MAX) => format!("{start} to max"),
                (start, end) if start == end => start.to_string(),
                (start, end) => format!("{start} to {end}"),
            };
            let reserved: Vec<String> = of.reserved_ranges().map(range).collect();
            source.reserved(&reserved, of.reserved_names());
        });
    }

    fn value(&mut self, value: &EnumValueDescriptor) {
        let options = listed(&value.options(), Vec::new());
        let line = format!("{} = {}{options};", value.name(), value.number());
        self.statement(value.path(), &line);
    }
}
