"""Words that people write beside a number, in English, Indonesian, German and Dutch; lower case.

Each entry is a regular expression of a whole word or phrase. Not here: what a word does to a score
(`guard.rules`).
"""

from __future__ import annotations

from typing import Final

from daulat.guard.rules import words

PHONE: Final = words(
    *(
        r"phones?",
        r"phone ?numbers?",
        r"tele(?:ph|f)on\w*",
        r"telp\w*",
        "tel",
        "tlp",
        r"(?:no\.? ?)?hp",
        r"mobi\w*",
    ),
    *(
        r"cell\w*",
        "call",
        "calling",
        "called",
        "wa",
        "whatsapp",
        "sms",
        "text me",
        "contact",
        "reach",
        "fax",
        "dial",
    ),
    *(
        "hubungi",
        "kontak",
        "faks",
        "handphone",
        "ponsel",
        "nomor saya",
        r"handy\w*",
        "rufnummer",
        "anrufen",
    ),
    *(r"erreich\w*", "bel", "bellen", "gsm", "ring", r"numéro", r"puhelin\w*"),
)
CARD: Final = words(
    *(
        r"(?:credit|debit|kredit|payment|bank)?[- ]?cards?",
        r"\w*kart[eu]\w*",
        "visa",
        "mastercard",
        "amex",
    ),
    *("american express", "maestro", "jcb", "cc", "cvv", "cvc", "discover", "diners", r"kaart\w*"),
    *(r"creditcard\w*", "charged?", "paid", "pay(?:ment)?"),
)
NIK: Final = words(
    *(
        "nik",
        r"(?:e-?)?ktp",
        "nomor induk kependudukan",
        "identity (?:card|number)",
        "id (?:card|number)",
    ),
)
KK: Final = words("kk", "nokk", "kartu keluarga", "family card")
NPWP: Final = words(
    "npwp", "nomor pokok wajib pajak", r"(?:wajib )?pajak", r"tax(?:payer)? (?:id|number)"
)
SSN: Final = words("ssn", r"social(?: security(?: \w+)?)?")
GERMAN_TAX: Final = words(r"steuer[\w-]*", r"id-?nr", "tin", r"tax id\w*")
BSN: Final = words("bsn", "burgerservicenummer", r"sofi-?nummer")
PASSPORT: Final = words(
    *(
        r"passports?(?:number)?",
        r"paspor\w*",
        r"reisepass\w*",
        "passnummer",
        "pass-nr",
        "passeport",
        "pasaporte",
    ),
)
BIRTH: Final = words(
    *("born", "birth", r"birth ?da(?:y|te)", "dob", r"d\.o\.b\.?", "lahir", "kelahiran", "ttl"),
    *(r"geboren\w*", r"geburt\w*", r"geb\.", r"geboorte\w*"),
)
