//! What a name in a schema stands for.

use prost_reflect::{
    DescriptorPool, EnumDescriptor, EnumValueDescriptor, ExtensionDescriptor, FieldDescriptor,
    FileDescriptor, MessageDescriptor, MethodDescriptor, OneofDescriptor, ServiceDescriptor,
};

use crate::suggest;

/// Whatever has a name.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// A file, by its path.
    File(FileDescriptor),
    /// `package.Service`
    Service(ServiceDescriptor),
    /// `package.Service.Method`, or `package.Service/Method`
    Method(MethodDescriptor),
    /// `package.Message`
    Message(MessageDescriptor),
    /// `package.Message.field`
    Field(FieldDescriptor),
    /// `package.Message.oneof`
    Oneof(OneofDescriptor),
    /// `package.Enum`
    Enum(EnumDescriptor),
    /// `package.VALUE`, beside its enum as the language has it, or `package.Enum.VALUE`
    EnumValue(EnumValueDescriptor),
    /// `package.extension`
    Extension(ExtensionDescriptor),
}

/// A name as pools have it, however it was written.
pub(super) fn plain(name: &str) -> String {
    match name.ends_with(".proto") {
        true => name.to_owned(),
        false => name.trim_start_matches('.').replace('/', "."),
    }
}

impl Symbol {
    /// What a pool has of this name, which is [`plain`].
    pub(super) fn of(pool: &DescriptorPool, name: &str) -> Option<Self> {
        let whole = (pool.get_file_by_name(name).map(Self::File))
            .or_else(|| pool.get_service_by_name(name).map(Self::Service))
            .or_else(|| pool.get_message_by_name(name).map(Self::Message))
            .or_else(|| pool.get_enum_by_name(name).map(Self::Enum))
            .or_else(|| pool.get_extension_by_name(name).map(Self::Extension));
        if whole.is_some() {
            return whole;
        }
        let (parent, member) = name.rsplit_once('.').unwrap_or_default();
        if let Some(service) = pool.get_service_by_name(parent) {
            let mut methods = service.methods();
            return methods.find(|method| method.name() == member).map(Self::Method);
        }
        if let Some(message) = pool.get_message_by_name(parent) {
            let field = message.get_field_by_name(member).map(Self::Field);
            let oneof = || {
                message
                    .oneofs()
                    .find(|oneof| oneof.name() == member)
                    .map(Self::Oneof)
            };
            if let Some(found) = field.or_else(oneof) {
                return Some(found);
            }
        }
        if let Some(of) = pool.get_enum_by_name(parent) {
            return of.get_value_by_name(member).map(Self::EnumValue);
        }
        let mut values = pool.all_enums().flat_map(|of| of.values().collect::<Vec<_>>());
        values
            .find(|value| value.full_name() == name)
            .map(Self::EnumValue)
    }

    /// The name by which it can be asked for.
    pub fn full_name(&self) -> String {
        match self {
            Self::File(file) => file.name(),
            Self::Service(service) => service.full_name(),
            Self::Method(method) => method.full_name(),
            Self::Message(message) => message.full_name(),
            Self::Field(field) => field.full_name(),
            Self::Oneof(oneof) => oneof.full_name(),
            Self::Enum(of) => of.full_name(),
            Self::EnumValue(value) => value.full_name(),
            Self::Extension(extension) => extension.full_name(),
        }
        .to_owned()
    }

    /// What it is, with its article.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "a file",
            Self::Service(_) => "a service",
            Self::Method(_) => "a method",
            Self::Message(_) => "a message",
            Self::Field(_) => "a field",
            Self::Oneof(_) => "a oneof",
            Self::Enum(_) => "an enum",
            Self::EnumValue(_) => "a value of an enum",
            Self::Extension(_) => "an extension",
        }
    }

    /// The file that it is declared in.
    pub fn file(&self) -> FileDescriptor {
        match self {
            Self::File(file) => file.clone(),
            Self::Service(service) => service.parent_file(),
            Self::Method(method) => method.parent_file(),
            Self::Message(message) => message.parent_file(),
            Self::Field(field) => field.parent_file(),
            Self::Oneof(oneof) => oneof.parent_file(),
            Self::Enum(of) => of.parent_file(),
            Self::EnumValue(value) => value.parent_file(),
            Self::Extension(extension) => extension.parent_file(),
        }
    }
}

/// The name in a pool that may have been meant: one of the same last part, or one that is nearly the same. What is in
/// what the name says it is in comes first.
pub(super) fn nearest(pool: &DescriptorPool, wanted: &str) -> Option<String> {
    let among = |names: Vec<String>| {
        let same = names
            .iter()
            .find(|name| last(name).eq_ignore_ascii_case(last(wanted)));
        let nearest = same.map(String::as_str);
        let nearest = nearest.or_else(|| suggest::nearest(wanted, names.iter().map(String::as_str)));
        nearest.map(ToOwned::to_owned)
    };
    let (parent, _) = wanted.rsplit_once('.').unwrap_or_default();
    among(members(pool, parent)).or_else(|| among(all(pool)))
}

fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The names in what has this name.
fn members(pool: &DescriptorPool, parent: &str) -> Vec<String> {
    if let Some(service) = pool.get_service_by_name(parent) {
        let methods = service.methods();
        methods.map(|method| method.full_name().to_owned()).collect()
    } else if let Some(message) = pool.get_message_by_name(parent) {
        let fields = message.fields();
        fields.map(|field| field.full_name().to_owned()).collect()
    } else if let Some(of) = pool.get_enum_by_name(parent) {
        let values = of.values();
        values.map(|value| format!("{parent}.{}", value.name())).collect()
    } else {
        Vec::new()
    }
}

fn all(pool: &DescriptorPool) -> Vec<String> {
    let mut names: Vec<String> = pool
        .services()
        .map(|service| service.full_name().to_owned())
        .collect();
    let messages = pool.all_messages().filter(|message| !message.is_map_entry());
    names.extend(messages.map(|message| message.full_name().to_owned()));
    names.extend(pool.all_enums().map(|of| of.full_name().to_owned()));
    names.extend(
        pool.all_extensions()
            .map(|extension| extension.full_name().to_owned()),
    );
    names
}
